(class_definition
  body: (block
    (decorated_definition
      definition: (function_definition name: (identifier) @name body: (block) @body)) @definition.method))
(class_definition
  body: (block
    (function_definition name: (identifier) @name body: (block) @body) @definition.method))
(decorated_definition
  definition: (function_definition name: (identifier) @name body: (block) @body)) @definition.function
(function_definition name: (identifier) @name body: (block) @body) @definition.function
(decorated_definition definition: (class_definition name: (identifier) @name)) @definition.class
(class_definition name: (identifier) @name) @definition.class

(module (expression_statement (assignment left: (identifier) @name) @definition.constant))
(class_definition
  body: (block (expression_statement (assignment left: (identifier) @name) @definition.constant)))
(type_alias_statement left: (type (identifier) @name)) @definition.type

(call function: (identifier) @reference)
(call function: (attribute object: (_) @qualifier attribute: (identifier) @reference))
(decorator (identifier) @reference)
(decorator (attribute object: (_) @qualifier attribute: (identifier) @reference))

((function_definition name: (identifier) @test) (#match? @test "^test_"))
((class_definition name: (identifier) @test) (#match? @test "^Test"))

; A function of the file, or one that it imports, that is handed on.
(pair value: (identifier) @handed)
(list (identifier) @handed)
(tuple (identifier) @handed)
(import_from_statement name: (dotted_name (identifier) @imported))
(argument_list (identifier) @handed)
(argument_list (keyword_argument value: (identifier) @handed))

; What the language calls: __eq__ and the like.
((function_definition name: (identifier) @implied)
  (#match? @implied "^__.+__$") (#not-match? @implied "^__(init|new)__$"))
((function_definition name: (identifier) @implied) (#eq? @implied "main"))
; What is used like a value, and what is registered somewhere: @property, @name.setter, @app.route("/").
(decorated_definition
  (decorator (identifier) @_kind)
  definition: (function_definition name: (identifier) @implied)
  (#match? @_kind "property$"))
(decorated_definition
  (decorator [(attribute) (call function: (attribute))])
  definition: (function_definition name: (identifier) @implied))
