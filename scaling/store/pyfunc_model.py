"""What MLflow runs when it loads a registered network; a copy lies with every model."""

from mlflow.models import set_model

from scaling.store.registered import Network

set_model(Network())
