{{- define "wine-sandbox.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "wine-sandbox.image" -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{- /* Common to every container of the chart. */ -}}
{{- define "wine-sandbox.container" -}}
image: {{ include "wine-sandbox.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Address and keys of the object store, for boto3 and MLflow. */ -}}
{{- define "wine-sandbox.store" -}}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ include "wine-sandbox.endpoint" . | quote }}}
- {name: AWS_DEFAULT_REGION, value: us-east-1}
- {name: AWS_EC2_METADATA_DISABLED, value: "true"}
- {name: AWS_ACCESS_KEY_ID, valueFrom: {secretKeyRef: {name: minio, key: accesskey}}}
- {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: minio, key: secretkey}}}
{{- end -}}

{{- define "wine-sandbox.endpoint" -}}
http://minio.{{ .Release.Namespace }}.svc.cluster.local:9000
{{- end -}}

{{- /*
A Deployment of one pod and its Service, under a fixed name: call with a dict of "top", "name", "port" (0: no Service), "account" (of the
API server, with the kubeconfig that the stand-ins read), and as YAML the pod's "container" and "init".
The folder /state is lost with the pod.
*/ -}}
{{- define "wine-sandbox.deployment" -}}
{{- $top := .top -}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ $top.Release.Namespace }}
  labels:
    {{- include "wine-sandbox.labels" $top | nindent 4 }}
    app.kubernetes.io/name: {{ .name }}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ .name }}
      app.kubernetes.io/instance: {{ $top.Release.Name }}
  template:
    metadata:
      labels:
        {{- include "wine-sandbox.labels" $top | nindent 8 }}
        app.kubernetes.io/name: {{ .name }}
    spec:
      serviceAccountName: {{ .account | default "wine-sandbox" }}
      automountServiceAccountToken: {{ if .account }}true{{ else }}false{{ end }}
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        fsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      {{- with .init }}
      initContainers:
        - {{- include "wine-sandbox.container" $top | nindent 10 }}
          {{- . | nindent 10 }}
      {{- end }}
      containers:
        - name: {{ .name }}
          {{- include "wine-sandbox.container" $top | nindent 10 }}
          {{- .container | nindent 10 }}
          {{- if .port }}
          ports: [{name: http, containerPort: {{ .port }}}]
          {{- end }}
          resources: {{- toYaml (index $top.Values.resources .name) | nindent 12 }}
          volumeMounts:
            - {name: state, mountPath: /state}
            - {name: tmp, mountPath: /tmp}
            {{- if .account }}
            - {name: kubeconfig, mountPath: /etc/sandbox, readOnly: true}
            {{- end }}
      volumes:
        - {name: state, emptyDir: {}}
        - {name: tmp, emptyDir: {}}
        {{- if .account }}
        - {name: kubeconfig, configMap: {name: wine-sandbox}}
        {{- end }}
{{- if .port }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ $top.Release.Namespace }}
  labels:
    {{- include "wine-sandbox.labels" $top | nindent 4 }}
    app.kubernetes.io/name: {{ .name }}
spec:
  selector:
    app.kubernetes.io/name: {{ .name }}
    app.kubernetes.io/instance: {{ $top.Release.Name }}
  ports: [{name: http, port: {{ .port }}, targetPort: http, protocol: TCP}]
{{- end }}
{{- end -}}
