"""What MLflow stores as the model's code and runs when it loads the model."""

from mlflow.models import set_model

from flash_pipeline.training.tracking.served_grid import ServedGrid

set_model(ServedGrid())
