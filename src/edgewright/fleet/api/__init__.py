"""The control plane over HTTP: a shell around what the other folders decide."""
