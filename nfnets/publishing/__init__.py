"""A trained network as a directory or repository that the Hugging Face hub, timm and this project read."""
