"""What can be asked of Tandem: the language (`spec`), sentences in it (`experiments`), mmdet's part."""
