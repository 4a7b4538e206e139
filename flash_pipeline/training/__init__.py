"""Training: recipes, scaling, the loop, the model bundle, and their tracking in MLflow."""
