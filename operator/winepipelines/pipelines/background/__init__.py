"""Work beside the stages, which never changes what they report: data checks and registry aliases."""
