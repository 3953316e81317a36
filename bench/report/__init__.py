"""What a reader sees."""

FORMATS = ("csv", "md", "tex", "html", "png", "pdf")
