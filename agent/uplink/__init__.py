"""From the outbox to the back end: CloudEvents over MQTT, delivered when a signed ack says so."""

from agent.uplink.uplink import Uplink, UplinkConfig, UplinkTiming

__all__ = ["Uplink", "UplinkConfig", "UplinkTiming"]
