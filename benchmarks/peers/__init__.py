"""The libraries that Isthmus is measured against, one file each. They run in an environment of their own and import
nothing of ours."""
