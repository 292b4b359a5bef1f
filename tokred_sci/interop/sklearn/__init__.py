"""scikit-learn: groups of columns as a transformer, and the encoder as classifier and regressor of whole series."""

from tokred_sci.interop.sklearn.reducer import TokenReducer
from tokred_sci.interop.sklearn.sequence import SequenceClassifier, SequenceRegressor

__all__ = ["SequenceClassifier", "SequenceRegressor", "TokenReducer"]
