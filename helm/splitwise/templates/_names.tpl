{{/* The release's name, once: `splitwise`, or `<release>-splitwise`. */}}
{{- define "splitwise.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of the operator's objects, and of the Lease. */}}
{{- define "splitwise.operator" -}}
{{ include "splitwise.fullname" . }}-operator
{{- end -}}

{{- define "splitwise.selector" -}}
app.kubernetes.io/name: splitwise-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Without a version: what changes them replaces the pods. */}}
{{- define "splitwise.podLabels" -}}
{{ include "splitwise.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: splitwise
{{- end -}}

{{- define "splitwise.labels" -}}
{{ include "splitwise.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* An image's whole name. Takes a dict: `root`, and `image` with registry, repository, tag, digest. */}}
{{- define "splitwise.image" -}}
{{- $all := .root.Values.image -}}
{{- $registry := .image.registry | default $all.registry -}}
{{- $tag := .image.tag | default $all.tag | default .root.Chart.AppVersion -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end -}}
