"""Training data in the status: counts, dropped columns and warnings."""

from dataclasses import replace

from support.world import World

from winepipelines.api.modelrecord import TrainingData
from winepipelines.api.observed import TrainingRecords
from winepipelines.api.status import ConditionType

TRAINED = ConditionType.TRAINED


def test_training_data_is_in_status_and_its_warning_is_one_event() -> None:
    """Field case c04: a model that was trained on a row number must have a warning."""
    world = World()
    world.reconcile()
    world.succeed()
    data = TrainingData(rows=108, rows_dropped=12, columns_dropped=("type",))
    found = world.records[1]
    assert isinstance(found, TrainingRecords)
    assert found.model is not None
    warning = 'The column "Id" numbers the rows (0 to 119).'
    world.records[1] = replace(found, model=found.model.with_(data=data, warnings=(warning,)))
    world.reconcile()
    assert warning in world.condition(TRAINED).message
    world.roll_out()
    assert world.ready()
    assert world.status.served is not None
    assert (world.status.served.model.data, world.status.served.model.warnings) == (data, (warning,))
    assert [(event.message, event.warning) for event in world.events if event.reason == "DataWarning"] == [(warning, True)]
