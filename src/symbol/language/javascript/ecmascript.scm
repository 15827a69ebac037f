; What JavaScript and TypeScript share.
(class_body
  (method_definition
    name: [(property_identifier) (private_property_identifier)] @name
    body: (statement_block) @body) @definition.method)
(function_declaration name: (identifier) @name body: (statement_block) @body) @definition.function
(generator_function_declaration
  name: (identifier) @name
  body: (statement_block) @body) @definition.function
(class_declaration name: (_) @name) @definition.class
(variable_declarator
  name: (identifier) @name
  value: (arrow_function body: (_) @body)) @definition.function
(variable_declarator
  name: (identifier) @name
  value: (function_expression body: (_) @body)) @definition.function
(variable_declarator
  name: (identifier) @name
  value: (generator_function body: (_) @body)) @definition.function
(variable_declarator name: (identifier) @name value: (class)) @definition.class
(program (lexical_declaration "const" (variable_declarator name: (identifier) @name) @definition.constant))
(program
  (export_statement
    (lexical_declaration "const" (variable_declarator name: (identifier) @name) @definition.constant)))
(program (lexical_declaration (variable_declarator name: (identifier) @name) @definition.variable))
(program
  (export_statement
    (lexical_declaration (variable_declarator name: (identifier) @name) @definition.variable)))
(program (variable_declaration (variable_declarator name: (identifier) @name) @definition.variable))

; exports.name = function …, Type.prototype.name = function …
(assignment_expression
  left: (member_expression
    object: (member_expression
      object: (identifier) @owner
      property: (property_identifier) @_prototype)
    property: (property_identifier) @name)
  right: [
    (function_expression body: (_) @body)
    (arrow_function body: (_) @body)
  ]
  (#eq? @_prototype "prototype")) @definition.method
(program
  (expression_statement
    (assignment_expression
      left: (member_expression property: (property_identifier) @name)
      right: [
        (function_expression body: (_) @body)
        (arrow_function body: (_) @body)
      ]) @definition.function))

(call_expression function: (identifier) @reference)
(call_expression
  function: (member_expression
    object: (_) @qualifier
    property: [(property_identifier) (private_property_identifier)] @reference))
(new_expression constructor: (identifier) @reference)
(new_expression
  constructor: (member_expression object: (_) @qualifier property: (property_identifier) @reference))

; A function of the file, or one that it imports, that is handed on.
(pair value: (identifier) @handed)
(shorthand_property_identifier) @handed
(array (identifier) @handed)
(import_specifier name: (identifier) @imported)
(arguments (identifier) @handed)

; What the language calls, and what is used like a value.
(method_definition ["get" "set"] name: (property_identifier) @implied)
((method_definition name: (property_identifier) @implied)
  (#match? @implied "^(toString|toJSON|valueOf)$"))
