"""What a step has read of the data, as far as it shows in the status."""

from dataclasses import replace

from support.world import World

from winepipelines.resource.observed import TrainingRecords
from winepipelines.resource.status import ConditionType
from winepipelines.resource.table import TableRead

TRAINED = ConditionType.TRAINED


def test_what_was_read_of_the_data_is_in_the_status_and_its_warnings_are_told_once() -> None:
    """Field case c04: a model of a row number is not Ready in silence."""
    world = World()
    world.reconcile()
    world.succeed()
    read = TableRead(rows=108, rows_dropped=12, columns_dropped=("type",))
    found = world.records[1]
    assert isinstance(found, TrainingRecords)
    assert found.model is not None
    warning = 'The column "Id" numbers the rows (0 to 119).'
    world.records[1] = replace(found, model=replace(found.model, data=read, warnings=(warning,)))
    world.reconcile()
    assert warning in world.condition(TRAINED).message
    world.roll_out()
    assert world.ready()
    assert world.status.served is not None
    assert (world.status.served.data, world.status.served.warnings) == (read, (warning,))
    assert [(event.message, event.warning) for event in world.told if event.reason == "DataWarning"] == [(warning, True)]
