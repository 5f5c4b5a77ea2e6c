"""The stages of a WinePipeline, in order. To add one: write a module beside this one, and add its row."""

from winepipelines.api.status import ConditionType, Stage
from winepipelines.pipelines.stage import ConditionSubject, StageSpec
from winepipelines.pipelines.stages import deploy, gate, prepare, serve, train, verify

STAGES = (
    StageSpec(  # the namespace has the Secrets that runs and servers need
        name="prepare",
        stage=Stage.PREPARING,
        condition=ConditionType.PREPARED,
        checks=prepare.CHECKS,
        done=prepare.prepared,
        judges_served=False,
        keeps_ready=False,
        blocks_requests=True,
    ),
    StageSpec(  # the current revision has a model
        name="train",
        stage=Stage.TRAINING,
        condition=ConditionType.TRAINED,
        checks=train.CHECKS,
        done=train.trained,
    ),
    StageSpec(  # the model is signed and passes spec.gate
        name="gate",
        stage=Stage.GATING,
        condition=ConditionType.ACCEPTED,
        checks=gate.CHECKS,
        done=gate.accepted,
        subject=ConditionSubject.CANDIDATE,
    ),
    StageSpec(  # the model is rolled out, after a canary where another model serves
        name="deploy",
        stage=Stage.DEPLOYING,
        condition=ConditionType.DEPLOYED,
        checks=deploy.CHECKS,
        done=deploy.deployed,
        subject=ConditionSubject.MODEL,
    ),
    StageSpec(  # the endpoint predicts what the model itself predicts
        name="verify",
        stage=Stage.VERIFYING,
        condition=ConditionType.ENDPOINT_VERIFIED,
        checks=verify.CHECKS,
        done=verify.verified,
        subject=ConditionSubject.MODEL,
        keeps_ready=False,
    ),
    StageSpec(  # status and registry name the model that serves
        name="serve",
        stage=Stage.SERVING,
        condition=ConditionType.READY,
        checks=serve.CHECKS,
        done=serve.serving,
        judges_served=False,
        keeps_ready=False,
    ),
)
