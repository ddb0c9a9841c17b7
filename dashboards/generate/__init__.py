"""Grafana's dashboards as code: what each shows, and how panels of a kind look."""
