"""Loss terms of the methods, one file a method, named as on the command line."""

# Methods that are another method's term with other settings, and the file that holds the term.
# Every other method of conf/method has the file kd/objectives/<method>.py.
VARIANTS = {"feature": "fitnet", "wttm": "ttm"}
