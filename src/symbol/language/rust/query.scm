; Methods stand before functions: the first pattern tells the kind.
(impl_item
  body: (declaration_list
    (function_item name: (identifier) @name body: (block) @body) @definition.method))
(trait_item
  body: (declaration_list
    (function_item name: (identifier) @name body: (block) @body) @definition.method))
(trait_item
  body: (declaration_list
    (function_signature_item name: (identifier) @name) @definition.method))
(function_item name: (identifier) @name body: (block) @body) @definition.function
(function_signature_item name: (identifier) @name) @definition.function

(struct_item name: (type_identifier) @name) @definition.struct
(union_item name: (type_identifier) @name) @definition.union
(enum_item name: (type_identifier) @name) @definition.enum
(trait_item name: (type_identifier) @name) @definition.trait
(type_item name: (type_identifier) @name) @definition.type
(associated_type name: (type_identifier) @name) @definition.type
(const_item name: (identifier) @name) @definition.constant
(static_item name: (identifier) @name) @definition.variable
(macro_definition name: (identifier) @name) @definition.macro
(mod_item name: (identifier) @name body: (declaration_list)) @definition.module

(impl_item type: (type_identifier) @name) @container
(impl_item type: (primitive_type) @name) @container
(impl_item type: (scoped_type_identifier name: (type_identifier) @name)) @container
(impl_item type: (generic_type type: (type_identifier) @name)) @container
(impl_item
  type: (generic_type type: (scoped_type_identifier name: (type_identifier) @name))) @container
(impl_item type: (reference_type type: (type_identifier) @name)) @container
(impl_item
  type: (reference_type type: (generic_type type: (type_identifier) @name))) @container
(impl_item type: (dynamic_type trait: (type_identifier) @name)) @container
(impl_item
  type: (reference_type
    type: [
      (primitive_type) @name
      (scoped_type_identifier name: (type_identifier) @name)
      (generic_type type: (scoped_type_identifier name: (type_identifier) @name))
      (dynamic_type trait: (type_identifier) @name)
      (array_type) @name
    ])) @container
; What has no name is named as it is written.
(impl_item type: [(array_type) (tuple_type) (unit_type) (pointer_type)] @name) @container

(call_expression function: (identifier) @reference)
(call_expression function: (field_expression value: (_) @qualifier field: (field_identifier) @reference))
(call_expression
  function: (generic_function
    function: (field_expression value: (_) @qualifier field: (field_identifier) @reference)))
(call_expression function: (generic_function function: (identifier) @reference))
(call_expression function: (scoped_identifier path: (_) @qualifier name: (identifier) @reference))
(call_expression
  function: (generic_function
    function: (scoped_identifier path: (_) @qualifier name: (identifier) @reference)))
; A function that is handed on.
(arguments (scoped_identifier path: (_) @qualifier name: (identifier) @reference))
(macro_invocation macro: (identifier) @reference)
(macro_invocation macro: (scoped_identifier path: (_) @qualifier name: (identifier) @reference))
(struct_expression name: (type_identifier) @reference)
(struct_expression
  name: (scoped_type_identifier path: (_) @qualifier name: (type_identifier) @reference))
; What a macro is given is not parsed: a name before parentheses is a call.
(token_tree (identifier) @reference . (token_tree "("))
(token_tree
  [(identifier) (self) (super) (crate)] @qualifier
  .
  ["::" "."]
  .
  (identifier) @reference
  .
  (token_tree "("))
(token_tree (token_tree) @qualifier . "." . (identifier) @reference . (token_tree "("))

((attribute (identifier) @test) (#eq? @test "test"))
((attribute (scoped_identifier name: (identifier) @test)) (#eq? @test "test"))
((attribute (identifier) @_cfg arguments: (token_tree . "(" . (identifier) @test . ")"))
  (#eq? @_cfg "cfg") (#eq? @test "test"))

; A function of the file, or one that it imports, that is handed on.
(arguments (identifier) @handed)
(arguments (generic_function function: (identifier) @handed))
(field_initializer value: (identifier) @handed)
(field_initializer value: (generic_function function: (identifier) @handed))
(array_expression (identifier) @handed)
(use_list (identifier) @imported)
(use_list (scoped_identifier name: (identifier) @imported))
(use_declaration argument: (scoped_identifier name: (identifier) @imported))

; What a trait asks for is called through the trait, and often by the language or another crate.
(impl_item
  trait: (_)
  body: (declaration_list (function_item name: (identifier) @implied)))
(source_file (function_item name: (identifier) @implied) (#eq? @implied "main"))

; What is called on a value.
(function_item parameters: (parameters (self_parameter) @receiver))
(function_signature_item parameters: (parameters (self_parameter) @receiver))
