(method_declaration
  receiver: (parameter_list (parameter_declaration type: (type_identifier) @owner))
  name: (field_identifier) @name
  body: (block)? @body) @definition.method
(method_declaration
  receiver: (parameter_list
    (parameter_declaration type: (pointer_type (type_identifier) @owner)))
  name: (field_identifier) @name
  body: (block)? @body) @definition.method
(method_declaration
  receiver: (parameter_list
    (parameter_declaration type: (generic_type type: (type_identifier) @owner)))
  name: (field_identifier) @name
  body: (block)? @body) @definition.method
(method_declaration
  receiver: (parameter_list
    (parameter_declaration type: (pointer_type (generic_type type: (type_identifier) @owner))))
  name: (field_identifier) @name
  body: (block)? @body) @definition.method
(function_declaration name: (identifier) @name body: (block)? @body) @definition.function

(type_spec name: (type_identifier) @name type: (struct_type)) @definition.struct
(type_spec name: (type_identifier) @name type: (interface_type)) @definition.interface
(type_spec name: (type_identifier) @name) @definition.type
(type_alias name: (type_identifier) @name) @definition.type
(method_elem name: (field_identifier) @name) @definition.method
(source_file (const_declaration (const_spec (identifier) @name) @definition.constant))
(source_file (var_declaration (var_spec (identifier) @name) @definition.variable))
(source_file
  (var_declaration (var_spec_list (var_spec (identifier) @name) @definition.variable)))

(call_expression function: (identifier) @reference)
(call_expression
  function: (selector_expression operand: (_) @qualifier field: (field_identifier) @reference))
(composite_literal type: (type_identifier) @reference)
(composite_literal
  type: (qualified_type package: (package_identifier) @qualifier name: (type_identifier) @reference))

((function_declaration name: (identifier) @test) (#match? @test "^(Test|Benchmark|Fuzz|Example)"))

; A function of the file that is handed on.
(literal_element (identifier) @handed)
(argument_list (identifier) @handed)

; What the runtime and the standard library call.
((function_declaration name: (identifier) @implied) (#match? @implied "^(main|init)$"))
((method_declaration name: (field_identifier) @implied)
  (#match? @implied "^(String|Error|Unwrap|Less|Swap|ServeHTTP|Marshal.*|Unmarshal.*)$"))
