{{- define "cridge.name" -}}
{{- if contains "cridge" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-cridge" (.Release.Name | trunc 33 | trimSuffix "-") }}{{ end -}}
{{- end }}

{{- define "cridge.selector" -}}
app.kubernetes.io/name: cridge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cridge.labels" -}}
{{ include "cridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "cridge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
