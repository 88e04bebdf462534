#!/usr/bin/env bash
#
# Server-side apply: an object is applied with an entry in a map, and then, by the
# same manager, with the empty map. What is stored has null in the place of the map
# (sigs.k8s.io/structured-merge-diff v6.3.3, which kube-apiserver 1.36.3 uses). An
# empty map that is applied first is stored as it is. A custom resource whose schema
# does not allow null refuses the second object, although it is valid: 422,
# "spec.allocations in body must be of type object".
#
# Seen:
#   {"range": "10.0.0.0/24", "allocations": {}} -> {"allocations":{},"range":"10.0.0.0/24"}
#   {"range": "10.0.0.0/24", "allocations": {"5": "a"}} -> {"allocations":{"5":"a"},"range":"10.0.0.0/24"}
#   {"range": "10.0.0.0/24", "allocations": {}} -> {"allocations":null,"range":"10.0.0.0/24"}
#
# Needs Go. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export CGO_ENABLED=0
cd "$work"

cat >go.mod <<END
module apply
go 1.26.0
require sigs.k8s.io/structured-merge-diff/v6 v6.3.3
END
cat >main.go <<'END'
// Applies two states of an object one after the other, as one manager, and prints what is stored.
package main

import (
	"fmt"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

const schema = `types:
- name: pool
  map:
    fields:
    - name: range
      type: {scalar: string}
    - name: allocations
      type: {map: {elementType: {scalar: string}}}
`

// same keeps an object as it is: there is one version.
type same struct{}

func (same) Convert(object *typed.TypedValue, _ fieldpath.APIVersion) (*typed.TypedValue, error) {
	return object, nil
}
func (same) IsMissingVersionError(error) bool { return false }

func main() {
	parser, err := typed.NewParser(typed.YAMLObject(schema))
	check(err)
	pool := parser.Type("pool")
	updater := (&merge.UpdaterBuilder{Converter: same{}}).BuildUpdater()
	live, err := pool.FromYAML("{}")
	check(err)
	managers := fieldpath.ManagedFields{}
	for _, applied := range []string{
		`{"range": "10.0.0.0/24", "allocations": {}}`,
		`{"range": "10.0.0.0/24", "allocations": {"5": "a"}}`,
		`{"range": "10.0.0.0/24", "allocations": {}}`,
	} {
		config, err := pool.FromYAML(typed.YAMLObject(applied))
		check(err)
		next, known, err := updater.Apply(live, config, "v1", managers, "operator", true)
		check(err)
		if next != nil {
			live = next
		}
		managers = known
		text, err := value.ToJSON(live.AsValue())
		check(err)
		fmt.Printf("%s -> %s\n", applied, text)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
END
GOFLAGS=-mod=mod go mod tidy >/dev/null 2>&1
found=$(go run .)
echo "$found"
[[ $(tail -n 1 <<<"$found") == *' -> {"allocations":null,"range":"10.0.0.0/24"}' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
