#!/usr/bin/env bash
#
# A column of a custom resource (additionalPrinterColumns) whose path matches
# several values shows only the first of them, although kubectl prints all of them
# for the same path (k8s.io/apiextensions-apiserver and client-go v0.37.1): a pool
# with an IPv4 and an IPv6 subnet looks like a pool without IPv6.
#
# Seen:
#   column: 10.0.0.0/24
#   jsonpath of kubectl: 10.0.0.0/24 fd00::/64
#
# Needs Go. Leaves nothing behind.

set -euo pipefail

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export CGO_ENABLED=0
cd "$work"

cat >go.mod <<END
module column
go 1.26.0
require (
	k8s.io/apiextensions-apiserver v0.37.1
	k8s.io/apimachinery v0.37.1
	k8s.io/client-go v0.37.1
)
END
cat >main.go <<'END'
// Prints what a column shows (the first one is the name), and what kubectl's jsonpath prints for its path.
package main

import (
	"context"
	"fmt"
	"os"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource/tableconvertor"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
)

const path = ".spec.subnets[*].subnet"

func main() {
	subnet := func(cidr string) any { return map[string]any{"subnet": cidr} }
	pool := map[string]any{
		"apiVersion": "example.org/v1", "kind": "Pool",
		"metadata": map[string]any{"name": "blue"},
		"spec":     map[string]any{"subnets": []any{subnet("10.0.0.0/24"), subnet("fd00::/64")}},
	}
	columns := []v1.CustomResourceColumnDefinition{{Name: "Subnets", Type: "string", JSONPath: path}}
	convertor, err := tableconvertor.New(columns)
	check(err)
	table, err := convertor.ConvertToTable(context.Background(), &unstructured.Unstructured{Object: pool}, nil)
	check(err)
	fmt.Println("column:", table.Rows[0].Cells[1])

	query := jsonpath.New("query")
	check(query.Parse("{" + path + "}"))
	fmt.Print("jsonpath of kubectl: ")
	check(query.Execute(os.Stdout, pool))
	fmt.Println()
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
[[ $found == $'column: 10.0.0.0/24\njsonpath of kubectl: 10.0.0.0/24 fd00::/64' ]] ||
    { echo "it behaves otherwise now" >&2 && exit 1; }
