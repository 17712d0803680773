"""What is measured, one file a subject: how ours runs, who the peers are, what has to agree, and what is aimed at."""
