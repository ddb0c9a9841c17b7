"""Configuration of Prometheus and Grafana, and the generator of Grafana's dashboards."""
