"""Grafana's dashboards as code: a module per dashboard, and functions that build panels."""
