"""What MLflow stores as a baseline's code and runs when it loads the baseline."""

from mlflow.models import set_model

from flash_pipeline.training.tracking.served import ServedBaseline

set_model(ServedBaseline())
