"""The report on a recording: a page that explains a run, made of its frames alone."""
