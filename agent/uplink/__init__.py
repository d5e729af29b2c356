"""From the outbox to the back end: CloudEvents over MQTT, delivered when a signed ack says so."""

from agent.uplink.config import UplinkConfig, UplinkTiming
from agent.uplink.drain import DrainTiming
from agent.uplink.uplink import Uplink

__all__ = ["DrainTiming", "Uplink", "UplinkConfig", "UplinkTiming"]
