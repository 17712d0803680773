"""From a damaged image back to a clean one."""
