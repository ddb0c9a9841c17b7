"""What the shell, the file system and the network of a user's machine bring."""
