"""Networks: how they are built, edited, checked, saved and loaded."""
