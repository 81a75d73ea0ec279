"""One picture to one answer, and the record of it. Knows neither HTTP nor SQL."""
