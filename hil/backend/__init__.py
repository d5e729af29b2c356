"""A correct back end on the bench: takes records over MQTT, checks them, keeps them, acknowledges them."""
