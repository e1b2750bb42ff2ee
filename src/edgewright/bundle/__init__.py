"""What goes out: the signed unit that ships, and the trust it travels under."""
