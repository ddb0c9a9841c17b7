"""The driver of a sweep: Ray Tune decides, the service trains, the service's log is the state."""
