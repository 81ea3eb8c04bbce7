{{/*
What the operator may do where it runs clusters: the only place that says it. A ClusterRole or the
Roles of watched namespaces take it from here, and manifests/base is made from them.
*/}}
{{- define "splitwise.rules" -}}
- apiGroups: [splitwise.dev]
  resources: [splitwiseclusters]
  verbs: [get, list, watch]
- apiGroups: [splitwise.dev]
  resources: [splitwisepools]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [splitwise.dev]
  resources: [splitwiseclusters/status, splitwisepools/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts, configmaps]
  verbs: [get, list, watch, create, patch]
# One Secret for each cluster, and those that clusters name: asked for by name, never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch] # patch: which of them goes first when a pool shrinks
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
# The operator reads none of these. Routers find workers by them, their Role is made by the
# operator, and Kubernetes lets nobody grant a right that he does not have.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
{{- end -}}
