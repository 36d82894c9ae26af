"""A corpus for others: its card, its Croissant description, and exports in the forms that trainers and hubs read."""
