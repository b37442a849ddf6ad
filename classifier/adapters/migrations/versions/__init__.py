"""One module per schema version; each is written once and never changed after a release."""
