"""What MLflow stores as the model's code and runs when it loads the model."""

from mlflow.models import set_model

from flash_pipeline.training.tracking.served import ServedModel

set_model(ServedModel())
