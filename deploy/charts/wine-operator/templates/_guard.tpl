{{- /* The new and the old object as maps. Absent parts are empty. */ -}}
{{- define "wine-operator.guard.metadata.variables" -}}
- {name: before, expression: "oldObject == null ? dyn({}) : dyn(oldObject)"}
- {name: metadata, expression: "dyn(object.metadata)"}
- {name: metadataBefore, expression: "has(variables.before.metadata) ? variables.before.metadata : dyn({})"}
- {name: labels, expression: "has(variables.metadata.labels) ? variables.metadata.labels : dyn({})"}
- {name: labelsBefore, expression: "has(variables.metadataBefore.labels) ? variables.metadataBefore.labels : dyn({})"}
- {name: annotations, expression: "has(variables.metadata.annotations) ? variables.metadata.annotations : dyn({})"}
- {name: annotationsBefore, expression: "has(variables.metadataBefore.annotations) ? variables.metadataBefore.annotations : dyn({})"}
- {name: owners, expression: "has(variables.metadata.ownerReferences) ? variables.metadata.ownerReferences : dyn([])"}
- {name: ownersBefore, expression: "has(variables.metadataBefore.ownerReferences) ? variables.metadataBefore.ownerReferences : dyn([])"}
- {name: specBefore, expression: "has(variables.before.spec) ? variables.before.spec : dyn({})"}
{{- end -}}

{{- /* Validations for every kind. The kind's own variables list the allowed labels, annotations and owners. */ -}}
{{- define "wine-operator.guard.metadata" -}}
- message: the operator changes no object that it did not create
  expression: >-
    oldObject == null
    || 'app.kubernetes.io/managed-by' in variables.labelsBefore && variables.labelsBefore['app.kubernetes.io/managed-by'] == 'wine-operator'
- message: an object of the operator's has no other metadata than name, labels, annotations and owners
  expression: >-
    variables.metadata.all(f, f in ['annotations', 'creationTimestamp', 'generation', 'labels', 'managedFields', 'name', 'namespace',
    'ownerReferences', 'resourceVersion', 'uid']
    || f in variables.metadataBefore && variables.metadataBefore[f] == variables.metadata[f])
- message: an object of the operator's has the label that says so, and none that other controllers act on
  expression: >-
    'app.kubernetes.io/managed-by' in variables.labels && variables.labels['app.kubernetes.io/managed-by'] == 'wine-operator'
    && variables.labels.all(l, l == 'app.kubernetes.io/managed-by'
    || l in variables.allowedLabels && variables.labels[l] == variables.allowedLabels[l]
    || l in variables.labelsBefore && variables.labels[l] == variables.labelsBefore[l])
- message: an object of the operator's has no annotations that other controllers act on
  expression: >-
    variables.annotations.all(a, a in variables.allowedAnnotations && variables.annotations[a].matches(variables.allowedAnnotations[a])
    || a in variables.annotationsBefore && variables.annotations[a] == variables.annotationsBefore[a])
- message: an object of the operator's is owned by WinePipelines
  expression: >-
    variables.owners.all(o, o in variables.ownersBefore
    || o.all(f, f in ['apiVersion', 'kind', 'name', 'uid']) && [o.apiVersion, o.kind] in variables.allowedOwners)
{{- end -}}

{{- /* Secrets: the allowed keys by name. A model's initializer has its whole Secret as environment: another key could be the variable of
another program, such as LD_PRELOAD, and rclone runs commands for some kinds of remotes. */ -}}
{{- define "wine-operator.guard.keys" -}}
{{- $backends := include "wine-operator.backends" . | fromYamlArray }}
{{- if has "kserve" $backends }}
wine-model-store: ^AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)$
{{- end }}
{{- if has "seldon" $backends }}
seldon-init-container-secret: ^RCLONE_CONFIG_S3_[A-Z0-9_]+$
{{- end }}
wine-mlflow-credentials: ^MLFLOW_TRACKING_(USERNAME|PASSWORD|TOKEN)$
wine-model-key: ^(current|previous)$
{{- end -}}

{{- define "wine-operator.guard.secrets.variables" -}}
- {name: allowedLabels, expression: "dyn({})"}
{{- $backends := include "wine-operator.backends" . | fromYamlArray }}
{{- if has "kserve" $backends }}
- name: allowedAnnotations
  expression: >-
    dyn({'serving.kserve.io/s3-endpoint': '^[A-Za-z0-9.:-]+$', 'serving.kserve.io/s3-region': '^[A-Za-z0-9-]+$',
    'serving.kserve.io/s3-usehttps': '^[01]$', 'serving.kserve.io/s3-verifyssl': '^[01]$'})
{{- else }}
- {name: allowedAnnotations, expression: "dyn({})"}
{{- end }}
- name: allowedOwners
  expression: >-
    [['winepipelines.io/v1alpha1', 'WinePipeline']
    {{- if has "seldon" $backends }}, ['machinelearning.seldon.io/v1', 'SeldonDeployment']{{ end }}
    {{- if has "kserve" $backends }}, ['serving.kserve.io/v1beta1', 'InferenceService']{{ end }}]
- name: keys
  expression: >-
    {{ include "wine-operator.guard.keys" . | fromYaml | include "wine-operator.cel" }}
- {name: data, expression: "has(object.data) ? dyn(object.data) : dyn({})"}
- {name: dataBefore, expression: "has(variables.before.data) ? variables.before.data : dyn({})"}
{{- end -}}

{{- define "wine-operator.guard.secrets" -}}
- message: the operator writes no other Secret
  expression: object.metadata.name in variables.keys
- message: the operator writes no service account's token, and no Secret of another type
  expression: object.type == 'Opaque'
- message: a Secret of the operator's has data and no other field
  expression: object.all(f, f in ['apiVersion', 'data', 'kind', 'metadata', 'type'])
- message: a Secret of the operator's has settings of the object store, credentials for MLflow or the key of models, and nothing else
  expression: >-
    variables.data.all(k, k.matches(variables.keys[object.metadata.name])
    || k in variables.dataBefore && variables.data[k] == variables.dataBefore[k])
- message: the operator makes the key that models are signed with, and never changes one that is there
  expression: >-
    object.metadata.name != 'wine-model-key' || request.operation == 'CREATE' || variables.data == variables.dataBefore
- message: the store that models are copied from is an S3 store
  expression: >-
    !('RCLONE_CONFIG_S3_TYPE' in variables.data) || variables.data['RCLONE_CONFIG_S3_TYPE'] == {{ b64enc "s3" | squote }}
{{- end -}}

{{- /* PodDefaults: the variables that they set, each with its only allowed value. */ -}}
{{- define "wine-operator.guard.poddefaults.variables" -}}
{{- $mlflow := regexReplaceAll "/+$" (trim (.Values.mlflow.stepsUrl | default .Values.mlflow.url)) "" -}}
{{- $store := regexReplaceAll "/+$" (trim .Values.objectStore.url) "" -}}
{{- $keys := dict "AWS_ACCESS_KEY_ID" "accesskey" "AWS_SECRET_ACCESS_KEY" "secretkey" -}}
{{- $env := list -}}
{{- range $variable, $value := dict "MINIO_ENDPOINT_URL" $store "MLFLOW_S3_ENDPOINT_URL" $store "MLFLOW_TRACKING_URI" $mlflow -}}
{{- $env = append $env (dict "name" $variable "value" $value) -}}
{{- end -}}
{{- range $variable, $key := $keys -}}
{{- $reference := dict "name" "mlpipeline-minio-artifact" "key" $key "optional" false -}}
{{- $env = append $env (dict "name" $variable "valueFrom" (dict "secretKeyRef" $reference)) -}}
{{- end -}}
- {name: allowedLabels, expression: "dyn({})"}
- {name: allowedAnnotations, expression: "dyn({})"}
- {name: allowedOwners, expression: "[['winepipelines.io/v1alpha1', 'WinePipeline']]"}
- name: allowedEnv
  expression: >-
    {{ include "wine-operator.cel" $env }}
- {name: env, expression: "has(object.spec.env) ? dyn(object.spec.env) : dyn([])"}
- {name: envBefore, expression: "has(variables.specBefore.env) ? variables.specBefore.env : dyn([])"}
{{- end -}}

{{- define "wine-operator.guard.poddefaults" -}}
- message: the operator writes no other PodDefault
  expression: object.metadata.name in ['access-minio', 'mlflow-server-minio']
- message: a PodDefault of the operator's selects pods by its own name
  expression: "dyn(object.spec.selector) == {'matchLabels': {object.metadata.name: 'true'}}"
- message: a PodDefault of the operator's sets variables of the platform, and nothing else
  expression: >-
    object.all(f, f in ['apiVersion', 'kind', 'metadata', 'spec'] || f in variables.before && object[f] == variables.before[f])
    && object.spec.all(f, f in ['desc', 'env', 'selector'] || f in variables.specBefore && object.spec[f] == variables.specBefore[f])
    && (!has(object.spec.desc) || object.spec.desc in ['Allow access to MinIO', 'Allow access to MLflow'])
    && variables.env.all(v, v in variables.allowedEnv || v in variables.envBefore)
{{- end -}}

{{- /* SeldonDeployments. An update that does not change the spec is admitted: it removes an owner. */ -}}
{{- define "wine-operator.guard.seldondeployments.variables" -}}
- {name: allowedLabels, expression: "dyn({'winepipelines.io/pipeline': object.metadata.name})"}
- name: allowedAnnotations
  expression: "dyn({'winepipelines.io/applied': '^[0-9a-f]{1,64}$', 'winepipelines.io/revision': '^[0-9]{1,19}$'})"
- {name: allowedOwners, expression: "[['winepipelines.io/v1alpha1', 'WinePipeline']]"}
- name: podSecurity
  expression: >-
    {{ dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") | include "wine-operator.cel" }}
- name: containerSecurity
  expression: >-
    {{ dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) | include "wine-operator.cel" }}
- {name: unchanged, expression: "variables.specBefore == dyn(object.spec)"}
- {name: predictors, expression: "dyn(object.spec.predictors)"}
- {name: predictorsBefore, expression: "has(variables.specBefore.predictors) ? variables.specBefore.predictors : dyn([])"}
- {name: parts, expression: "variables.predictors.map(p, p.componentSpecs[0])"}
- {name: containers, expression: "variables.parts.map(c, c.spec.containers[0])"}
{{- end -}}

{{- define "wine-operator.guard.seldondeployments" -}}
- message: a SeldonDeployment of the operator's is owned by the one WinePipeline of its name
  expression: >-
    (oldObject != null || size(variables.owners) == 1)
    && variables.owners.all(o, o.name == object.metadata.name || o in variables.ownersBefore)
- message: a SeldonDeployment of the operator's is of version v1 and has only metadata and a spec
  expression: >-
    object.apiVersion == 'machinelearning.seldon.io/v1'
    && object.all(f, f in ['apiVersion', 'kind', 'metadata', 'spec'] || f in variables.before && object[f] == variables.before[f])
- message: the spec of a SeldonDeployment of the operator's has only name, protocol and predictors
  expression: >-
    variables.unchanged || object.spec.name == object.metadata.name && object.spec.protocol in ['seldon', 'v2']
    && object.spec.all(f, f in ['name', 'predictors', 'protocol'] || f in variables.specBefore && object.spec[f] == variables.specBefore[f])
- message: a SeldonDeployment of the operator's has one predictor, and perhaps one for the candidate
  expression: >-
    variables.unchanged || size(variables.predictors) in [1, 2]
    && variables.predictors.all(p, p.name in ['candidate', 'wine-super-model'] && variables.predictors.exists_one(q, q.name == p.name)
    && p.all(f, f in ['annotations', 'componentSpecs', 'graph', 'name', 'progressDeadlineSeconds', 'replicas', 'traffic'])
    && (!has(p.annotations) || p.annotations == {'seldon.io/no-engine': 'true'})
    && (!has(p.progressDeadlineSeconds) || type(p.progressDeadlineSeconds) == int && p.progressDeadlineSeconds > 0)
    && (!has(p.replicas) || type(p.replicas) == int && p.replicas >= 0 && p.replicas <= 100)
    && type(p.traffic) == int && p.traffic >= 0 && p.traffic <= 100)
- message: a model of the operator's is copied from the object store with the operator's Secret, for an MLflow server
  expression: >-
    variables.unchanged || variables.predictors.all(p,
    p.graph.all(f, f in ['envSecretRefName', 'implementation', 'modelUri', 'name', 'parameters'])
    && p.graph.name == 'classifier' && p.graph.implementation == 'MLFLOW_SERVER'
    && p.graph.envSecretRefName == 'seldon-init-container-secret'
    && (!has(p.graph.parameters) || p.graph.parameters == [{'name': 'xtype', 'type': 'STRING', 'value': 'DataFrame'}])
    && size(p.graph.modelUri) <= 1024 && !p.graph.modelUri.matches('/[.]{1,2}(/|$)')
    && p.graph.modelUri.matches('^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=+.@-]+)+$')
    {{- with .Values.guard.modelLocations }}
    && {{ toJson . }}.exists(l, p.graph.modelUri.startsWith(l.endsWith('/') ? l : l + '/'))
    {{- end }})
- message: pods of the operator's have no labels and no annotations that others act on, and are scaled by CPU utilization alone
  expression: >-
    variables.unchanged || variables.predictors.all(p, size(p.componentSpecs) == 1)
    && variables.parts.all(c, c.all(f, f in ['hpaSpec', 'metadata', 'spec'])
    && (!has(c.metadata) || c.metadata.all(f, f == 'annotations') && (!has(c.metadata.annotations)
    || c.metadata.annotations.all(a, a == 'winepipelines.io/template' && c.metadata.annotations[a].matches('^[0-9a-f]{1,64}$')
    || a == 'prometheus.io/port' && c.metadata.annotations[a] == '8000')))
    && (!has(c.hpaSpec) || c.hpaSpec.all(f, f in ['maxReplicas', 'metricsv2', 'minReplicas'])
    && type(c.hpaSpec.minReplicas) == int && c.hpaSpec.minReplicas >= 1
    && type(c.hpaSpec.maxReplicas) == int && c.hpaSpec.maxReplicas >= c.hpaSpec.minReplicas && c.hpaSpec.maxReplicas <= 100
    && size(c.hpaSpec.metricsv2) == 1 && c.hpaSpec.metricsv2.all(m, type(m.resource.target.averageUtilization) == int
    && m.resource.target.averageUtilization >= 1 && m.resource.target.averageUtilization <= 100
    && m == {'type': dyn('Resource'), 'resource': dyn({'name': dyn('cpu'), 'target': dyn({'type': dyn('Utilization'),
    'averageUtilization': m.resource.target.averageUtilization})})})))
- message: a pod of the operator's has one container, and nothing of the node or the namespace
  expression: >-
    variables.unchanged || variables.parts.all(c,
    c.spec.all(f, f in ['automountServiceAccountToken', 'containers', 'securityContext', 'terminationGracePeriodSeconds'])
    && (!has(c.spec.terminationGracePeriodSeconds) || type(c.spec.terminationGracePeriodSeconds) == int
    && c.spec.terminationGracePeriodSeconds >= 0 && c.spec.terminationGracePeriodSeconds <= 600)
    && size(c.spec.containers) == 1)
    && variables.containers.all(k, k.name == 'classifier'
    && k.all(f, f in ['env', 'image', 'lifecycle', 'livenessProbe', 'name', 'ports', 'readinessProbe', 'resources', 'securityContext',
    'startupProbe']))
- message: a server of the operator's has an image that it was installed with, of any release
  expression: >-
    variables.unchanged || variables.containers.all(k,
    {{ include "wine-operator.guard.repositories" . }}.exists(r, k.image.startsWith(r + ':') || k.image.startsWith(r + '@')))
- message: a server of the operator's has the digest of its model as its only variable, one port, and requests and limits as resources
  expression: >-
    variables.unchanged || variables.containers.all(k,
    (!has(k.env) || k.env == [{'name': dyn('MODEL_DIGEST'), 'value': k.env[0].value}] && k.env[0].value.matches('^sha256:[0-9a-f]{64}$'))
    && (!has(k.ports) || k.ports == [{'name': dyn('http'), 'containerPort': dyn(8000), 'protocol': dyn('TCP')}])
    && (!has(k.resources) || k.resources.all(f, f in ['limits', 'requests'] && size(k.resources[f]) <= 8
    && k.resources[f].all(r, type(k.resources[f][r]) == int && k.resources[f][r] >= 0
    || type(k.resources[f][r]) == string && k.resources[f][r].matches('^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$')))))
- message: a server of the operator's is probed over HTTP at its own address
  expression: >-
    variables.unchanged || variables.containers.all(k, k.all(f, !(f in ['livenessProbe', 'readinessProbe', 'startupProbe'])
    || k[f].all(g, g in ['failureThreshold', 'httpGet', 'periodSeconds'] || g == 'initialDelaySeconds' && f == 'startupProbe')
    && k[f].all(g, g == 'httpGet' || type(k[f][g]) == int && k[f][g] >= 1)
    && k[f].httpGet.all(g, g in ['path', 'port', 'scheme'])
    && k[f].httpGet.path in ['/health/ping', '/health/status'] && k[f].httpGet.port in [dyn('http'), dyn(9000)]
    && k[f].httpGet.scheme == 'HTTP'))
- message: a server of the operator's runs no other command when it ends than sleep
  expression: >-
    variables.unchanged || variables.containers.all(k, !has(k.lifecycle)
    || k.lifecycle == {'preStop': {'exec': {'command': [dyn('sleep'), k.lifecycle.preStop.exec.command[1]]}}}
    && k.lifecycle.preStop.exec.command[1].matches('^[0-9]{1,3}$'))
- message: a pod of the operator's does not run as root, gains no privileges and has no token, unless it served this model already
  expression: >-
    variables.unchanged || variables.predictors.all(p,
    variables.predictorsBefore.exists(q, q.name == p.name && q.graph.modelUri == p.graph.modelUri
    && q.componentSpecs[0].spec == p.componentSpecs[0].spec)
    || p.componentSpecs.all(c, has(c.spec.automountServiceAccountToken) && c.spec.automountServiceAccountToken == false
    && has(c.spec.securityContext) && c.spec.securityContext == variables.podSecurity
    && c.spec.containers.all(k, has(k.securityContext) && k.securityContext == variables.containerSecurity)))
{{- end -}}

{{- /* InferenceServices. An update that leaves the spec as it is passes: it gives up an owner. KServe's webhook adds an annotation with the
format of the model, an empty name and default resources before policies see the object. */ -}}
{{- define "wine-operator.guard.inferenceservices.variables" -}}
- name: pipeline
  expression: "'winepipelines.io/pipeline' in variables.labels ? dyn(variables.labels['winepipelines.io/pipeline']) : dyn('')"
- name: allowedLabels
  expression: >-
    dyn({'winepipelines.io/pipeline': object.metadata.name == string(variables.pipeline) + '-candidate' ? variables.pipeline
    : dyn(object.metadata.name)})
- name: allowedAnnotations
  expression: >-
    dyn({'winepipelines.io/template': '^[0-9a-f]{1,64}$', 'modelFormat': '^winepipelines$',
    'serving.kserve.io/deploymentMode': '^(Standard|RawDeployment|Knative|Serverless)$', 'serving.kserve.io/autoscalerClass': '^(hpa|none)$',
    'serving.kserve.io/enable-tag-routing': '^true$',
    'serving.kserve.io/storageSecretName': '^wine-model-store$'})
- {name: allowedOwners, expression: "[['winepipelines.io/v1alpha1', 'WinePipeline']]"}
- name: podSecurity
  expression: >-
    {{ dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") | include "wine-operator.cel" }}
- name: containerSecurity
  expression: >-
    {{ dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) | include "wine-operator.cel" }}
{{- /* Knative rejects a security context of the pod. */}}
- name: knativeSecurity
  expression: >-
    {{ dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) "runAsNonRoot" true
    "seccompProfile" (dict "type" "RuntimeDefault") | include "wine-operator.cel" }}
- name: knative
  expression: >-
    has(object.metadata.annotations) && 'serving.kserve.io/deploymentMode' in object.metadata.annotations
    && object.metadata.annotations['serving.kserve.io/deploymentMode'] in ['Knative', 'Serverless']
- {name: unchanged, expression: "variables.specBefore == dyn(object.spec)"}
- {name: predictor, expression: "dyn(object.spec.predictor)"}
- {name: predictorBefore, expression: "has(variables.specBefore.predictor) ? variables.specBefore.predictor : dyn({})"}
- {name: model, expression: "has(object.spec.predictor.model) ? dyn(object.spec.predictor.model) : dyn({})"}
{{- end -}}

{{- define "wine-operator.guard.inferenceservices" -}}
- message: an InferenceService of the operator's is owned by the one WinePipeline whose label it has
  expression: >-
    (oldObject != null || size(variables.owners) == 1)
    && variables.owners.all(o, o.name == string(variables.pipeline) || o in variables.ownersBefore)
- message: an InferenceService of the operator's is of version v1beta1 and has only metadata and a spec
  expression: >-
    object.apiVersion == 'serving.kserve.io/v1beta1'
    && object.all(f, f in ['apiVersion', 'kind', 'metadata', 'spec', 'status'] && (f != 'status' || object[f] == dyn({}))
    || f in variables.before && object[f] == variables.before[f])
- message: the spec of an InferenceService of the operator's has a predictor and nothing else
  expression: >-
    variables.unchanged || object.spec.all(f, f == 'predictor' || f in variables.specBefore && object.spec[f] == variables.specBefore[f])
    && variables.predictor.all(f, f in ['automountServiceAccountToken', 'canaryTrafficPercent', 'maxReplicas', 'minReplicas', 'model', 'scaleMetric', 'scaleTarget',
    'securityContext', 'terminationGracePeriodSeconds']
    || f in variables.predictorBefore && variables.predictor[f] == variables.predictorBefore[f])
- message: an InferenceService of the operator's is scaled by CPU utilization alone
  expression: >-
    variables.unchanged || type(variables.predictor.minReplicas) == int
    && variables.predictor.minReplicas >= (variables.knative ? 0 : 1)
    && variables.predictor.minReplicas <= 100
    && (!has(variables.predictor.maxReplicas) || type(variables.predictor.maxReplicas) == int
    && variables.predictor.maxReplicas >= variables.predictor.minReplicas && variables.predictor.maxReplicas <= 100)
    && (!has(variables.predictor.scaleMetric) || variables.predictor.scaleMetric == 'cpu')
    && (!has(variables.predictor.scaleTarget) || type(variables.predictor.scaleTarget) == int
    && variables.predictor.scaleTarget >= 1 && variables.predictor.scaleTarget <= 100)
    && (!has(variables.predictor.canaryTrafficPercent) || type(variables.predictor.canaryTrafficPercent) == int
    && variables.predictor.canaryTrafficPercent >= 0 && variables.predictor.canaryTrafficPercent <= 99)
- message: a model of the operator's is copied from the object store, for the operator's runtime
  expression: >-
    variables.unchanged || has(variables.predictor.model) && has(variables.model.storageUri)
    && variables.model.modelFormat.all(f, f == 'name') && variables.model.modelFormat.name == 'winepipelines'
    && variables.model.runtime == {{ .Values.kserve.clusterRuntime | default "wine-model-server" | squote }}
    && size(variables.model.storageUri) <= 1024 && !variables.model.storageUri.matches('/[.]{1,2}(/|$)')
    && variables.model.storageUri.matches('^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=+.@-]+)+/$')
    {{- with .Values.guard.modelLocations }}
    && {{ toJson . }}.exists(l, variables.model.storageUri.startsWith(l.endsWith('/') ? l : l + '/'))
    {{- end }}
- message: a server of the operator's has no other field than image, variables, port, resources, restrictions, probes and a wait before its end
  expression: >-
    variables.unchanged || variables.model.all(f, f in ['env', 'image', 'lifecycle', 'livenessProbe', 'modelFormat', 'ports',
    'readinessProbe', 'resources', 'runtime', 'securityContext', 'startupProbe', 'storageUri', 'terminationMessagePolicy']
    || f == 'name' && variables.model[f] == '')
    && variables.model.terminationMessagePolicy == 'FallbackToLogsOnError'
    && (!has(variables.predictor.terminationGracePeriodSeconds) || type(variables.predictor.terminationGracePeriodSeconds) == int
    && variables.predictor.terminationGracePeriodSeconds >= 0 && variables.predictor.terminationGracePeriodSeconds <= 600)
- message: a server of the operator's has an image that it was installed with, of any release
  expression: >-
    variables.unchanged || {{ include "wine-operator.guard.repositories" . }}.exists(r,
    variables.model.image.startsWith(r + ':') || variables.model.image.startsWith(r + '@'))
- message: a server of the operator's has its port, its name and the digest of its model as variables, one port, and requests and limits
  expression: >-
    variables.unchanged || variables.model.env.all(e, e.all(f, f in ['name', 'value'])
    && (e.name == 'MLSERVER_HTTP_PORT' && e.value == '8080'
    || e.name == 'MLSERVER_MODEL_NAME' && e.value == string(variables.pipeline)
    || e.name == 'MODEL_DIGEST' && e.value.matches('^sha256:[0-9a-f]{64}$')))
    && variables.model.ports == [{'name': dyn(variables.knative ? 'http1' : 'http'), 'containerPort': dyn(8080), 'protocol': dyn('TCP')}]
    && (!has(variables.model.resources) || variables.model.resources.all(f, f in ['limits', 'requests']
    && size(variables.model.resources[f]) <= 8
    && variables.model.resources[f].all(r, type(variables.model.resources[f][r]) == int && variables.model.resources[f][r] >= 0
    || type(variables.model.resources[f][r]) == string
    && variables.model.resources[f][r].matches('^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$'))))
- message: a server of the operator's is probed over HTTP at its own address
  expression: >-
    variables.unchanged || variables.model.all(f, !(f in ['livenessProbe', 'readinessProbe', 'startupProbe'])
    || variables.model[f].all(g, g in ['failureThreshold', 'httpGet', 'periodSeconds']
    && (g == 'httpGet' || type(variables.model[f][g]) == int && variables.model[f][g] >= 1))
    && variables.model[f].httpGet.all(g, g in ['path', 'port', 'scheme'])
    && variables.model[f].httpGet.path in ['/health/ping', '/health/status'] && variables.model[f].httpGet.port == dyn(8080)
    && variables.model[f].httpGet.scheme == 'HTTP')
- message: a server of the operator's runs no other command when it ends than sleep
  expression: >-
    variables.unchanged || !has(variables.model.lifecycle)
    || variables.model.lifecycle == {'preStop': {'exec': {'command': [dyn('sleep'), variables.model.lifecycle.preStop.exec.command[1]]}}}
    && variables.model.lifecycle.preStop.exec.command[1].matches('^[0-9]{1,3}$')
- message: a pod of the operator's does not run as root, gains no privileges and has no token
  expression: >-
    variables.unchanged || has(variables.predictor.automountServiceAccountToken)
    && variables.predictor.automountServiceAccountToken == false
    && has(variables.model.securityContext) && (variables.knative
    ? !has(variables.predictor.securityContext) && variables.model.securityContext == variables.knativeSecurity
    : has(variables.predictor.securityContext) && variables.predictor.securityContext == variables.podSecurity
    && variables.model.securityContext == variables.containerSecurity)
{{- end -}}

{{- /* ServingRuntimes: one, which has an image and nothing else. */ -}}
{{- define "wine-operator.guard.servingruntimes.variables" -}}
- {name: allowedLabels, expression: "dyn({})"}
- {name: allowedAnnotations, expression: "dyn({})"}
- name: allowedOwners
  expression: "[['winepipelines.io/v1alpha1', 'WinePipeline'], ['serving.kserve.io/v1beta1', 'InferenceService']]"
- {name: spec, expression: "dyn(object.spec)"}
{{- end -}}

{{- define "wine-operator.guard.servingruntimes" -}}
- message: the operator writes no other ServingRuntime
  expression: object.metadata.name == 'wine-model-server' && object.apiVersion == 'serving.kserve.io/v1alpha1'
- message: a ServingRuntime of the operator's has the model format, the protocols and one server with an image that it was installed with
  expression: >-
    object.all(f, f in ['apiVersion', 'kind', 'metadata', 'spec'])
    && variables.spec.all(f, f in ['containers', 'protocolVersions', 'supportedModelFormats']
    || f in variables.specBefore && variables.spec[f] == variables.specBefore[f])
    && variables.spec.supportedModelFormats == [{'name': dyn('winepipelines'), 'autoSelect': dyn(false)}]
    && variables.spec.protocolVersions == ['v1', 'v2'] && size(variables.spec.containers) == 1
    && variables.spec.containers.all(k, k.name == 'kserve-container' && k.all(f, f in ['image', 'name', 'resources'])
    && (!has(k.resources) || k.resources == dyn({}))
    && {{ include "wine-operator.guard.repositories" . }}.exists(r, k.image.startsWith(r + ':') || k.image.startsWith(r + '@')))
{{- end -}}

{{- /* Deletions. */ -}}
{{- define "wine-operator.guard.deletions.variables" -}}
- {name: labels, expression: "has(oldObject.metadata.labels) ? dyn(oldObject.metadata.labels) : dyn({})"}
{{- end -}}

{{- define "wine-operator.guard.deletions" -}}
- message: the operator deletes no object that it did not create
  expression: >-
    'app.kubernetes.io/managed-by' in variables.labels && variables.labels['app.kubernetes.io/managed-by'] == 'wine-operator'
{{- end -}}

{{- /* Resources of users: the operator may only add and remove its finalizer. The status is another resource. */ -}}
{{- define "wine-operator.guard.winepipelines.variables" -}}
- {name: now, expression: dyn(object)}
- {name: before, expression: dyn(oldObject)}
- {name: finalizers, expression: "has(object.metadata.finalizers) ? dyn(object.metadata.finalizers) : dyn([])"}
- {name: finalizersBefore, expression: "has(oldObject.metadata.finalizers) ? dyn(oldObject.metadata.finalizers) : dyn([])"}
{{- end -}}

{{- define "wine-operator.guard.winepipelines" -}}
- message: the operator changes nothing of a WinePipeline or WinePrediction but its finalizer and its status
  expression: >-
    oldObject != null
    && variables.now.all(f, f == 'metadata' || f in variables.before && variables.now[f] == variables.before[f])
    && variables.before.all(f, f in variables.now)
    && variables.now.metadata.all(f, f in ['finalizers', 'generation', 'managedFields', 'resourceVersion']
    || f in variables.before.metadata && variables.now.metadata[f] == variables.before.metadata[f])
    && variables.before.metadata.all(f, f in ['finalizers', 'managedFields'] || f in variables.now.metadata)
    && variables.finalizers.all(f, f == 'winepipelines.io/cleanup' || f in variables.finalizersBefore)
    && variables.finalizersBefore.all(f, f == 'winepipelines.io/cleanup' || f in variables.finalizers)
{{- end -}}

{{- /* Server images of any release: a served model keeps the image that it was first served with. */ -}}
{{- define "wine-operator.guard.repositories" -}}
{{- $repositories := list -}}
{{- $images := list (include "wine-operator.image" (list . .Values.image.server)) -}}
{{- if has "seldon" (include "wine-operator.backends" . | fromYamlArray) -}}
{{- $images = append $images .Values.seldon.mlflowserver.image -}}
{{- end -}}
{{- range $image := concat $images .Values.guard.serverRepositories -}}
{{- $repositories = append $repositories (regexReplaceAll "(:[^/:@]+)?(@[^@]+)?$" $image "") -}}
{{- end -}}
{{- toJson $repositories -}}
{{- end -}}

{{- /* A value in CEL syntax. The API server requires that all values of a map have one type: dyn. */ -}}
{{- define "wine-operator.cel" -}}
{{- if kindIs "map" . -}}
dyn({ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }}: {{ include "wine-operator.cel" (get $ $key) }}{{ end -}} })
{{- else if kindIs "slice" . -}}
dyn([{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "wine-operator.cel" $item }}{{ end }}])
{{- else -}}
dyn({{ toJson . }})
{{- end -}}
{{- end -}}
