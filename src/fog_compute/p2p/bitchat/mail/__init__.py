"""Mail by hand: what people carry for each other to those who are away; decisions alone."""
