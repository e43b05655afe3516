"""Linear classifiers on a frozen encoder: trained online, or fitted to cached features."""
