"""The commands an engineer and an operator type."""
