"""What can be asked for: the language (`spec`), sentences in it (`experiments`), mmdet's part."""
