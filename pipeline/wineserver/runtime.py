"""MLServer's side: the model as an MLServer runtime, which gives it the Open Inference Protocol's routes."""

import asyncio
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from numpy.typing import NDArray

from wineserver.model import WineModel, load
from wineserver.rows import InputError, Matrix

MANY = 1000  # rows; more would keep the event loop, and with it the probes, waiting


class WineRuntime(MLModel):  # type: ignore[misc]  # MLServer has no types
    """Serves the folder in `settings.parameters.uri`."""

    model: WineModel

    async def load(self) -> bool:
        """Load the folder. Raises ModelFolderError."""
        self.model = load(Path(self.settings.parameters.uri))
        self.inputs = [
            MetadataTensor(name=name, datatype=datatype, shape=[-1, 1])
            for name, datatype in zip(self.model.schema.columns, self.model.datatypes, strict=True)
        ]
        self.outputs = [MetadataTensor(name="predict", datatype="FP64", shape=[-1, 1])]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the tensor `predict`, FP64 [rows, 1]. Raises InferenceError (400)."""
        try:
            matrix = self.model.schema.from_inputs(payload.inputs)
        except InputError as error:
            raise InferenceError(str(error)) from error
        output = NumpyCodec.encode_output("predict", await self.compute(matrix))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])

    async def compute(self, matrix: Matrix) -> NDArray[np.float64]:
        """Predict, in a thread where it takes long."""
        if len(matrix) > MANY:
            return await asyncio.to_thread(self.model.predict, matrix)
        return self.model.predict(matrix)
