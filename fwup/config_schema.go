package fwup

// The schema of fwup 1.16: what may stand in a configuration, in the order in
// which meta.conf shows it.
var configSchema = &schema{options: []option{
	{name: "meta-product"},
	{name: "meta-description"},
	{name: "meta-version"},
	{name: "meta-author"},
	{name: "meta-platform"},
	{name: "meta-architecture"},
	{name: "meta-creation-date", kind: hiddenOption},
	{name: "meta-fwup-version"},
	{name: "meta-vcs-identifier"},
	{name: "meta-misc"},
	{name: "meta-uuid", kind: hiddenOption},
	{name: "meta-nickname", kind: hiddenOption},
	{name: "require-fwup-version", def: "0"},
	{name: "block-cache-size-mb", kind: intOption, def: "8"},
	{name: "define", kind: defineOption},
	{name: "define!", kind: defineOption},
	{name: "define-eval", kind: defineOption},
	{name: "define-eval!", kind: defineOption},
	{name: "include", kind: includeOption},
	{name: "file-resource", kind: sectionOption, titled: true, schema: resourceSchema},
	{name: "mbr", kind: sectionOption, titled: true, schema: mbrSchema},
	{name: "gpt", kind: sectionOption, titled: true, schema: gptSchema},
	{name: "task", kind: sectionOption, titled: true, schema: taskSchema},
	{name: "uboot-environment", kind: sectionOption, titled: true, schema: ubootSchema},
}}

var resourceSchema = &schema{options: []option{
	{name: "include", kind: includeOption},
	{name: "host-path", local: true},
	{name: "contents", local: true},
	{name: "skip-holes", kind: boolOption, def: "false", local: true},
	{name: "assert-size-lte", kind: intOption, def: "-1", local: true},
	{name: "assert-size-gte", kind: intOption, def: "-1", local: true},
	{name: "length", kind: intListOption, def: "0"},
	{name: "blake2b-256"},
	{name: "sha256"},
}}

// noBlockCount is the default of a partition's block-count: there is none.
const noBlockCount = "2147483647"

var mbrSchema = &schema{options: []option{
	{name: "bootstrap-code-host-path", local: true},
	{name: "bootstrap-code"},
	{name: "include-osip", kind: boolOption, def: "false"},
	{name: "osip-major", kind: intOption, def: "1"},
	{name: "osip-minor", kind: intOption, def: "0"},
	{name: "osip-num-pointers", kind: intOption, def: "1"},
	{name: "signature"},
	{name: "partition", kind: sectionOption, titled: true, schema: &schema{options: []option{
		{name: "block-offset"},
		{name: "block-count", kind: intOption, def: noBlockCount},
		{name: "type", kind: intOption, def: "-1"},
		{name: "boot", kind: boolOption, def: "false"},
		{name: "expand", kind: boolOption, def: "false"},
	}}},
	{name: "osii", kind: sectionOption, titled: true, schema: &schema{options: []option{
		{name: "os-major", kind: intOption, def: "0"},
		{name: "os-minor", kind: intOption, def: "0"},
		{name: "start-block-offset", kind: intOption, def: "0"},
		{name: "ddr-load-address", kind: intOption, def: "0"},
		{name: "entry-point", kind: intOption, def: "0"},
		{name: "image-size-blocks", kind: intOption, def: "0"},
		{name: "attribute", kind: intOption, def: "15"},
	}}},
}}

var gptSchema = &schema{options: []option{
	{name: "guid"},
	{name: "partition", kind: sectionOption, titled: true, schema: &schema{options: []option{
		{name: "block-offset"},
		{name: "block-count", kind: intOption, def: noBlockCount},
		{name: "type"},
		{name: "guid"},
		{name: "name"},
		{name: "flags", def: "0"},
		{name: "expand", kind: boolOption, def: "false"},
		{name: "boot", kind: boolOption, def: "false"},
	}}},
}}

var ubootSchema = &schema{options: []option{
	{name: "block-offset"},
	{name: "block-count", kind: intOption, def: noBlockCount},
	{name: "block-offset-redund"},
}}

var taskSchema = &schema{options: append([]option{
	{name: "include", kind: includeOption},
	{name: "reqlist", kind: listOption},
	{name: "require-partition1-offset", kind: intOption, def: "-1"},
	{name: "require-unmounted-destination", kind: boolOption, def: "false"},
	{name: "verify-on-the-fly", kind: boolOption, def: "false"},
	{name: "on-init", kind: sectionOption, schema: eventSchema},
	{name: "on-finish", kind: sectionOption, schema: eventSchema},
	{name: "on-error", kind: sectionOption, schema: eventSchema},
	{name: "on-resource", kind: sectionOption, titled: true, schema: onResourceSchema},
}, functionOptions("reqlist", requirementRules)...)}

var eventSchema = &schema{options: append([]option{
	{name: "include", kind: includeOption},
	{name: "funlist", kind: listOption},
}, functionOptions("funlist", actionRules)...)}

var onResourceSchema = &schema{options: append([]option{
	{name: "include", kind: includeOption},
	{name: "verify-on-the-fly", kind: boolOption, def: "false"},
	{name: "delta-source-raw-offset"},
	{name: "delta-source-raw-count", kind: intOption, def: "0"},
	{name: "delta-source-raw-options"},
	{name: "delta-source-fat-offset"},
	{name: "delta-source-fat-path"},
	{name: "funlist", kind: listOption},
}, functionOptions("funlist", actionRules)...)}

// functionOptions makes the options for calls that are gathered in a list.
func functionOptions(list string, rules []callRule) []option {
	options := make([]option, len(rules))
	for i, r := range rules {
		options[i] = option{name: r.name, kind: functionOption, list: list}
	}
	return options
}
