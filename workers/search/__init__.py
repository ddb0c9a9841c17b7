"""The driver of a sweep: Ray Tune decides, the service trains, and its list is all there is."""
