"""Names of the files in a search's folder, beside those of its trials."""

STUDY = "study.json"  # the identity of the search that the folder holds, with its space
