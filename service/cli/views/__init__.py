"""Views of the API as tables and lists of fields."""
