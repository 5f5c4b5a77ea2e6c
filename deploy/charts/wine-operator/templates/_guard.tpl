{{- /* Objects as maps, now and before; what is absent is empty. */ -}}
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

{{- /* What holds for each kind. Its own variables say which labels, annotations and owners it may have. */ -}}
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

{{- /* Secrets: by name, what their keys are called. A model's initializer has its whole Secret as environment: a key of another name
would be another program's variable, such as LD_PRELOAD, and rclone runs commands for some kinds of remotes. */ -}}
{{- define "wine-operator.guard.keys" -}}
seldon-init-container-secret: ^RCLONE_CONFIG_S3_[A-Z0-9_]+$
wine-mlflow-credentials: ^MLFLOW_TRACKING_(USERNAME|PASSWORD|TOKEN)$
wine-model-key: ^(current|previous)$
{{- end -}}

{{- define "wine-operator.guard.secrets.variables" -}}
- {name: allowedLabels, expression: "dyn({})"}
- {name: allowedAnnotations, expression: "dyn({})"}
- name: allowedOwners
  expression: "[['winepipelines.io/v1alpha1', 'WinePipeline'], ['machinelearning.seldon.io/v1', 'SeldonDeployment']]"
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

{{- /* PodDefaults: the variables that they set, each with its one value. */ -}}
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
- message: a PodDefault of the operator's is for pods that ask for it by its name
  expression: "dyn(object.spec.selector) == {'matchLabels': {object.metadata.name: 'true'}}"
- message: a PodDefault of the operator's sets variables of the platform, and nothing else
  expression: >-
    object.all(f, f in ['apiVersion', 'kind', 'metadata', 'spec'] || f in variables.before && object[f] == variables.before[f])
    && object.spec.all(f, f in ['desc', 'env', 'selector'] || f in variables.specBefore && object.spec[f] == variables.specBefore[f])
    && (!has(object.spec.desc) || object.spec.desc in ['Allow access to MinIO', 'Allow access to MLflow'])
    && variables.env.all(v, v in variables.allowedEnv || v in variables.envBefore)
{{- end -}}

{{- /* SeldonDeployments. An update that leaves the spec as it is passes: it gives up an owner. */ -}}
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

{{- /* Deletions. */ -}}
{{- define "wine-operator.guard.deletions.variables" -}}
- {name: labels, expression: "has(oldObject.metadata.labels) ? dyn(oldObject.metadata.labels) : dyn({})"}
{{- end -}}

{{- define "wine-operator.guard.deletions" -}}
- message: the operator deletes no SeldonDeployment that it did not create
  expression: >-
    'app.kubernetes.io/managed-by' in variables.labels && variables.labels['app.kubernetes.io/managed-by'] == 'wine-operator'
{{- end -}}

{{- /* What users write is theirs: the operator adds and removes its finalizer. Their status is another resource. */ -}}
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

{{- /* Of any release: a model that serves keeps the server that it was first served with. */ -}}
{{- define "wine-operator.guard.repositories" -}}
{{- $repositories := list -}}
{{- range $image := concat (list (include "wine-operator.image" (list . .Values.image.server)) .Values.seldon.mlflowserver.image) .Values.guard.serverRepositories -}}
{{- $repositories = append $repositories (regexReplaceAll "(:[^/:@]+)?(@[^@]+)?$" $image "") -}}
{{- end -}}
{{- toJson $repositories -}}
{{- end -}}

{{- /* A value as CEL writes it. The API server wants all values of a map to be of one type: dyn. */ -}}
{{- define "wine-operator.cel" -}}
{{- if kindIs "map" . -}}
dyn({ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }}: {{ include "wine-operator.cel" (get $ $key) }}{{ end -}} })
{{- else if kindIs "slice" . -}}
dyn([{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "wine-operator.cel" $item }}{{ end }}])
{{- else -}}
dyn({{ toJson . }})
{{- end -}}
{{- end -}}
