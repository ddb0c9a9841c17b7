"""Results that a report is made of."""
