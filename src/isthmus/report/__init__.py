"""A study's results and figures to one self-contained HTML page."""
