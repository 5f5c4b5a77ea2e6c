{{- /*
The operator's environment, as a list. Most variables are set by one value each: see files/settings.yaml, generated from values.yaml.
The others are composed here.
*/ -}}
{{- define "wine-operator.environment" -}}
{{- $top := . -}}
{{- $variables := list -}}
{{- range $name, $path := .Files.Get "files/settings.yaml" | fromYaml -}}
{{- $value := $top.Values -}}
{{- range splitList "." $path }}{{ $value = index $value . }}{{ end -}}
{{- /* Numbers are written as JSON: a template would write a large one as 1e+09. */ -}}
{{- $text := kindIs "string" $value | ternary $value (kindIs "slice" $value | ternary (join "," (kindIs "slice" $value | ternary $value list)) (toJson $value)) -}}
{{- if and $text (ne $text "null") -}}
{{- $variables = append $variables (dict "name" $name "value" $text) -}}
{{- end -}}
{{- end -}}
{{- $variables = append $variables (dict "name" "WINE_STEPS_IMAGE" "value" (include "wine-operator.image" (list . .Values.image.steps))) -}}
{{- $variables = append $variables (dict "name" "WINE_SERVER_IMAGE" "value" (include "wine-operator.image" (list . .Values.image.server))) -}}
{{- $variables = append $variables (dict "name" "WINE_PROBE_PORT" "value" (include "wine-operator.probePort" .)) -}}
{{- if .Values.metrics.enabled -}}
{{- $variables = append $variables (dict "name" "WINE_METRICS_PORT" "value" (toJson .Values.metrics.port)) -}}
{{- end -}}
{{- if .Values.kubeflow.token.enabled -}}
{{- $variables = append $variables (dict "name" "WINE_KFP_TOKEN_FILE" "value" "/var/run/secrets/kubeflow/token") -}}
{{- end -}}
{{- if or .Values.kubeflow.ca.configMap .Values.kubeflow.ca.secret -}}
{{- $variables = append $variables (dict "name" "WINE_KFP_CA_FILE" "value" "/var/run/ca/kubeflow/ca.crt") -}}
{{- end -}}
{{- if or .Values.mlflow.ca.configMap .Values.mlflow.ca.secret -}}
{{- $variables = append $variables (dict "name" "WINE_MLFLOW_CA_FILE" "value" "/var/run/ca/mlflow/ca.crt") -}}
{{- end -}}
{{- $known := list -}}
{{- range $variables }}{{ $known = append $known .name }}{{ end -}}
{{- range .Values.extraEnv -}}
{{- if has .name $known }}{{ fail (printf "extraEnv: %s is set by a value of its own, see README.md" .name) }}{{ end -}}
{{- $variables = append $variables . -}}
{{- end -}}
{{- toYaml $variables -}}
{{- end -}}

{{- define "wine-operator.probePort" -}}8080{{- end -}}
