"""What Prometheus and Grafana are told, and the program that writes Grafana's part."""
