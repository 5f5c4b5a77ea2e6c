{{- /* Common to the operator's pod and the test's: scheduling, user and volumes. */ -}}
{{- define "wine-operator.pod" -}}
serviceAccountName: {{ include "wine-operator.serviceAccount" . }}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- range $name := list "runAsUser" "runAsGroup" "fsGroup" }}
  {{- with index $.Values.podSecurity $name }}
  {{ $name }}: {{ toJson . }}
  {{- end }}
  {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if .Values.kubeflow.token.enabled }}
  - name: kubeflow-token
    projected:
      sources:
        - serviceAccountToken:
            path: token
            audience: {{ .Values.kubeflow.token.audience | quote }}
            expirationSeconds: {{ toJson .Values.kubeflow.token.expirationSeconds }}
  {{- end }}
  {{- include "wine-operator.caVolume" (list "kubeflow" .Values.kubeflow.ca) }}
  {{- include "wine-operator.caVolume" (list "mlflow" .Values.mlflow.ca) }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* The container without its command. */ -}}
{{- define "wine-operator.container" -}}
image: {{ include "wine-operator.image" (list . .Values.image.operator) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env: {{- include "wine-operator.environment" . | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.kubeflow.token.enabled }}
  - {name: kubeflow-token, mountPath: /var/run/secrets/kubeflow, readOnly: true}
  {{- end }}
  {{- include "wine-operator.caMount" (list "kubeflow" .Values.kubeflow.ca) }}
  {{- include "wine-operator.caMount" (list "mlflow" .Values.mlflow.ca) }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A CA certificate at /var/run/ca/<system>/ca.crt: call with (list "<system>" .Values.<system>.ca). */ -}}
{{- define "wine-operator.caVolume" -}}
{{- $ca := index . 1 -}}
{{- if and $ca.configMap $ca.secret }}{{ fail (printf "%s.ca: name a ConfigMap or a Secret, not both" (index . 0)) }}{{ end -}}
{{- if $ca.configMap }}
  - name: {{ index . 0 }}-ca
    configMap:
      name: {{ $ca.configMap }}
      items: [{key: {{ $ca.key | quote }}, path: ca.crt}]
{{- else if $ca.secret }}
  - name: {{ index . 0 }}-ca
    secret:
      secretName: {{ $ca.secret }}
      items: [{key: {{ $ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end -}}

{{- define "wine-operator.caMount" -}}
{{- $ca := index . 1 -}}
{{- if or $ca.configMap $ca.secret }}
  - {name: {{ index . 0 }}-ca, mountPath: /var/run/ca/{{ index . 0 }}, readOnly: true}
{{- end }}
{{- end -}}
